"""Train, sample and score diffusion models with SuperLoRA adapters."""
