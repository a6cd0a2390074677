"""Run student code where it can do no harm: a `Sandbox` takes a `Job` and gives an `Outcome` per exercise."""

from autograder.sandbox.client import Sandbox, SandboxError
from autograder.sandbox.limits import Job, Limits, Outcome
from autograder.sandbox.tiers import Finding, Refused, Tier, survey

__all__ = ["Finding", "Job", "Limits", "Outcome", "Refused", "Sandbox", "SandboxError", "Tier", "survey"]
