"""Does a model give away which examples it was trained on?"""
