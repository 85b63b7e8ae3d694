"""Gradio apps for any model of hf_genkit, on this machine or as a Space on the Hub."""

from .app import build_demo, launch_demo
from .space import check_hub_names, push_space, write_space


__all__ = ["build_demo", "check_hub_names", "launch_demo", "push_space", "write_space"]
