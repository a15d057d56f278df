"""Which training examples made a model what it is?"""
