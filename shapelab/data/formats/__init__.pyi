from . import metaimage as metaimage, nifti as nifti, text as text
