"""The models, one file a paper, each to be read top to bottom beside its paper.

acnn : Oktay et al., "Anatomically constrained neural networks (ACNNs)", IEEE TMI 2018
"""
