"""Makes the pages of the documentation that come from the code: formats, configuration, commands, the notebook."""
