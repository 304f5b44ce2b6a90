"""`candor model convert`: published reward models as safetensors."""
