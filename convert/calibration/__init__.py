"""What int4-awq learns from a calibration text: input scales, folded norms, clipped steps."""

from convert.calibration.calibrate import Calibrating, calibrate, check_calibration
from convert.calibration.store import Calibration

__all__ = ["Calibrating", "Calibration", "calibrate", "check_calibration"]
