"""MONAI Deploy's operators of the application; the work is in `deploy.work`.

MONAI Deploy's own operators are not used; docs/explanation/architecture.md lists their faults.
"""

from typing import Any

from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application, Operator, OperatorSpec

from deploy import work
from deploy.job import Job


class Prepare(Operator):
    """Read and prepare the scans of the job."""

    def setup(self, spec: OperatorSpec) -> None:
        spec.output("scans")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        op_output.emit(work.prepare(self.fragment.job), "scans")


class Infer(Operator):
    """Segment the scans."""

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("scans")
        spec.output("case")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        scans = op_input.receive("scans")
        op_output.emit((scans, work.segment(self.fragment.job, scans)), "case")


class Write(Operator):
    """Write the result files."""

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("case")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        work.write(self.fragment.job, *op_input.receive("case"))


class SegmentationApplication(Application):
    """The application that makes the result files of a job; its operators find the job at `self.fragment.job`."""

    def __init__(self, job: Job) -> None:
        self.job = job
        super().__init__([__file__])  # no arguments: MONAI Deploy must not parse our command line

    def compose(self) -> None:
        """Connect the operators."""
        prepare = Prepare(self, CountCondition(self, 1), name="prepare")
        segment = Infer(self, name="infer")
        write = Write(self, name="write")
        self.add_flow(prepare, segment, {("scans", "scans")})
        self.add_flow(segment, write, {("case", "case")})
