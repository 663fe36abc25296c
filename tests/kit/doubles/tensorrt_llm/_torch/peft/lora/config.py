"""Where `LoraConfig` is, from a release on."""

from ....facts import RELEASE, fact
from ....llmapi.sub_configs import LoraConfig

if fact("lora_module") != __name__:
    raise ModuleNotFoundError(f"No module named {__name__!r} in release {RELEASE}", name=__name__)

__all__ = ["LoraConfig"]
