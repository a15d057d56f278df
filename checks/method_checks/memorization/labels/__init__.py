"""Labels that were learned by heart: their scores and intervals (`counterfactual`), and wrong ones to be learned (`planting`)."""
