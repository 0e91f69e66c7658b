"""Conversations as models take them: messages, templates that make a prompt of them, tokens.

Templates come from files of strangers. `sandbox` runs them so that they can neither run code nor
take more time and memory than `meter` allows.
"""
