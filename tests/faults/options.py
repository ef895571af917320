"""Mistakes in the options of a run, in its config files, and options that ask for more than the machine has."""

from pathlib import Path

from tests.faults.table import Fault, both, overlay, plain, wrapped

BRATS, UKB = "brats_finetune", "ukb_ssl_pretrain"
UNREADABLE = {  # contents of a config file by the line about it
    "no such file": None,
    'empty; expected options by name, such as "batch_size: 2"': "",
    'holds a list; expected options by name, such as "batch_size: 2"': "- 1\n- 2\n",
    "not YAML: line 2: expected ',' or ']', but got ':'": "a: [1\nb: }\n",
}


def _unreadable(line: str, content: str | None) -> Fault:
    """A file that MONAI's command reads before any code of ours runs."""

    def prepare(folder: Path, _: Path) -> None:
        if content is not None:
            (folder / "own.yaml").write_text(content)

    words = "train {folder}/own.yaml"
    return wrapped(f"a file: {line}", BRATS, "", f"--config_file=…/own.yaml: {line}", words, prepare=prepare)


KEYS = [
    *both(BRATS, "--lerning_rate=5", "no such option in …train.yaml; did you mean --learning_rate?"),
    *both(BRATS, "--rank=3", "no such option in …train.yaml; did you mean --train?"),
    *both(BRATS, "--train::foo=1", "no such option in …train.yaml; expected one of cases, …"),
    *both(BRATS, "--loss::temperature=-1", "DiceLoss: got an unexpected keyword argument 'temperature'"),
    *both(BRATS, "--overlab=0.1", "no such option in …evaluate.yaml; did you mean --overlap?", config="evaluate"),
    wrapped("--trane::foo=1", BRATS, "--trane::foo=1", "--trane::foo=1: no such option in …; did you mean --train?"),
    *both(BRATS, "--init_id=begin", "no such key in …train.yaml; expected initialize"),
    *both(BRATS, "--=5", "no name; expected that of an option"),
    wrapped("a key of an expression", BRATS, "--network::size=1", "--network::size=1: …; network has no keys"),
    *overlay(BRATS, "lerning_rate: 5", "no such key in …; did you mean learning_rate?"),
    *overlay(BRATS, "train::trainer::max_epoch: 5", "SupervisedTrainer: …; did you mean max_epochs?"),
    *overlay(BRATS, "validate: {}", "leaves no validate::evaluator, which … refers to"),
]
VALUES = [
    *both(BRATS, "--loss::_target_=DiceLos", "no class or function DiceLos; did you mean DiceLoss?"),
    *both(BRATS, "--optimizer=SGD", "expected a component, such as {'_target_': 'torch.optim.AdamW', ...}"),
    *both(BRATS, "--loss=null", "expected a component, such as {'_target_': 'DiceLoss', ...}"),
    *both(BRATS, "--batch_size=None", "MONAI ignores None; write null, or leave the option out"),
    *both(BRATS, "--optimizer::lr=abc", "optimizer cannot be built: TypeError: '<=' not supported between …"),
    *both(UKB, "--loss::temperature=-1", "loss cannot be built: ValueError: temperature -1: expected …"),
    *both(BRATS, "--learning_rate=@nope", "no @nope in …train.yaml"),
    *both(BRATS, "--learning_rate=$1 /", "not a Python expression: invalid syntax"),
    *both(BRATS, "--learning_rate=$1 / 0", "learning_rate cannot be built: ZeroDivisionError: division by zero"),
    *both(BRATS, "--batch_size=two", "expected a whole number from 1"),
]
FILES = [
    *both(BRATS, "--ckpt_dir=~no_such_user/run", "no home folder is looked up here; expected its path, or …"),
    *both(BRATS, "--dataset_dir=~no_such_user/scans", "…; expected a path that can be read"),
    *both(BRATS, "--meta_file=/nowhere.json", "no such file"),
    *(_unreadable(line, content) for line, content in UNREADABLE.items()),
    wrapped("no such bundle", "brats_finetun", "", "BUNDLE brats_finetun: no such; did you mean brats_finetune?"),
    wrapped("no such config", BRATS, "", "CONFIG trai: no such; did you mean train?", "trai"),
]
MACHINE = [
    *both(BRATS, "--batch_size=1000000000", "the crops alone, …, take … GiB; this machine has … GiB"),
    *both(BRATS, "--patch_size=[32000, 32000, 32000]", "the crops alone, …, take … GiB; this machine has … GiB"),
    *both(BRATS, "--num_workers=1000000", "expected at most …"),
    *both(BRATS, "--batch_size=1000", "a step keeps … GiB for its backward pass; this machine has … GiB; set …"),
    plain(
        "no memory left",
        BRATS,
        "--batch_size=6",
        "out of memory on the host, … asked for: set --activation_checkpointing=true, or lower --batch_size=6 or …",
        memory=2**30,
    ),
]
FAULTS = [*KEYS, *VALUES, *FILES, *MACHINE]
