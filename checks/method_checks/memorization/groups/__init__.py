"""Two groups, what a model was trained on and what it was not: drawn, compared with each other without the model, and scored.

Every membership check compares them, whatever its score: `compared` draws and scores both, `refusals` says when nothing can be
said, `threshold` fixes a threshold on examples that are not counted, `blind` asks how much differs without the model.
"""
