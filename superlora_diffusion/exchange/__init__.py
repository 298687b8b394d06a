"""Adapters for other tools and from them: LoRA files of diffusers, PEFT and kohya, and merged pipelines."""
