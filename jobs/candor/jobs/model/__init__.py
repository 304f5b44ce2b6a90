"""`candor model convert`: published reward models made into safetensors."""
