"""The models, one file (or folder) a paper, each to be read top to bottom beside its paper.

- acnn: Oktay et al., "Anatomically constrained neural networks (ACNNs)", IEEE TMI 2018, and what its tables compare
  with
- native: a 2-D network for scans as they come; not from the papers
- sslln: Duan et al., "Automatic 3D bi-ventricular segmentation ... shape-refined multi-task", IEEE TMI 2019
"""
