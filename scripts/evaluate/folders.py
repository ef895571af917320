"""Read several evaluations: names of the folders, compatibility checks, and pooling."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from common.data.layouts.listing import UNPRINTABLE
from common.errors import InputError
from common.files import expand_home
from common.inference.reading import read
from common.inference.results import Details
from common.made import origin_of
from common.metrics.cards import Protocol
from common.values import names_of


def named_folders(command: str, folders: Sequence[str], names: str | Sequence[str] | None = None) -> dict[str, Path]:
    """Return folders by name, in order; the default names are the shortest distinct ends of the paths.

    Raise InputError for fewer than two folders, repeated folders or names, or a wrong number of names.
    """
    if len(folders) < 2:
        raise InputError(f"{' '.join([command, *folders])}: too few folders; expected at least two")
    paths = [expand_home(folder, folder).resolve() for folder in folders]
    if names is None:
        ends = [["/".join(path.parts[-length:]) for path in paths] for length in range(1, 99)]
        words = next((labels for labels in ends if len(set(labels)) == len(labels)), list(map(str, paths)))
    else:
        words = names_of(names)
    if len(set(paths)) < len(paths):
        raise InputError(f"{', '.join(folders)}: a folder is listed twice; expected distinct folders")
    if len(words) != len(folders):
        raise InputError(f"--names={','.join(words)}: expected a name for each of {', '.join(folders)}")
    if len(set(words)) < len(words):
        raise InputError(f"--names={','.join(words)}: a name is listed twice; expected distinct names")
    if odd := [word for word in words if not word or UNPRINTABLE.search(word)]:
        raise InputError(f"--names: {odd[0]!a}: expected names of printable characters")
    return dict(zip(words, paths, strict=True))


def check_protocol(first: str | Path, expected: Protocol, other: str | Path, actual: Protocol) -> None:
    """Raise an InputError if two evaluations, in the folders `first` and `other`, differ in protocol or settings."""
    ours, theirs = ({"protocol": protocol.name, **protocol.settings} for protocol in (expected, actual))
    for name in [*ours, *theirs]:
        if ours.get(name) != theirs.get(name):
            value, wanted = theirs.get(name, "none"), ours.get(name, "none")
            raise InputError(f"{other}: {name} {value}; expected {wanted}, as in {first}")


def pool(folders: Mapping[str, Path]) -> Details:
    """Pool evaluations of different cases without scoring again; the `part` of a case is its evaluation's name.

    Raise InputError if two evaluations share a case or differ in protocol, settings or label convention.
    """
    evaluations = {name: read(folder) for name, folder in folders.items()}
    first, expected = next(iter(evaluations.items()))
    cases: dict[str, tuple[str, Details]] = {}
    files = {}
    for name, details in evaluations.items():
        check_protocol(folders[first], expected.protocol, folders[name], details.protocol)
        if details.convention != expected.convention:
            problem = f"label_convention {details.convention}; expected {expected.convention}, as in {folders[first]}"
            raise InputError(f"{folders[name]}: {problem}")
        for case in details.files:
            if case.name in cases:
                other = folders[cases[case.name][0]]
                raise InputError(f"{folders[name]}: case {case.name} is also in {other}")
            cases[case.name] = name, details
            files[case.name] = case._replace(part=name)
    title = ", ".join(dict.fromkeys(details.name for details in evaluations.values()))
    names = sorted(cases)
    scores = {name: cases[name][1].scores[name] for name in names}
    sources = [details.made for details in evaluations.values() if details.made]
    facts = {name: {source.get(name) or "none" for source in sources} for name in ("cohort", "split", "cleanup")}
    shared = {name: " or ".join(sorted(values)) for name, values in facts.items() if values - {"none"}}
    made = origin_of(shared, any(source["made_up"] for source in sources))
    made["checkpoints"] = {path: sha256 for source in sources for path, sha256 in source["checkpoints"].items()}
    return Details(title, expected.convention, expected.protocol, [files[name] for name in names], scores, made)
