"""`LoRARequest`: which adapter a request wants."""

from dataclasses import dataclass


@dataclass(slots=True)
class LoRARequest:
    """An adapter by name, id and folder. The double answers as if its name stood before the
    prompt."""

    lora_name: str
    lora_int_id: int
    lora_path: str = ""
    lora_ckpt_source: str = "hf"

    @property
    def adapter_id(self) -> int:
        return self.lora_int_id

    @property
    def name(self) -> str:
        return self.lora_name

    @property
    def path(self) -> str:
        return self.lora_path
