"""How the bundled model is made: text generator, tokenizer, training and export."""
