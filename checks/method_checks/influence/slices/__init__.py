"""Groups of examples on which a model errs for one reason.

`embeddings` says where examples lie for the model, `clusters` finds slices there, `evidence` judges them on other examples.
"""
