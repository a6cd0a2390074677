"""Small helpers that the chapters call: device, seeds, timing, plotting, data sets, local copies of models."""

from course_utils.device import device
from course_utils.seeds import seed_everything
from course_utils.timing import Timing, measure

__all__ = ["Timing", "device", "measure", "seed_everything"]
