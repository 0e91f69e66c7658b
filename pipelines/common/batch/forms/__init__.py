"""The forms that prompts come in and results are written in, one file each."""
