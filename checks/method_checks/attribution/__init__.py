"""Does an explanation depend on the model that it explains?"""
