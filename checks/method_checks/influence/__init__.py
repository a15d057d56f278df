"""Which training examples made a model what it is, and on which examples does it fail?"""
