from seglab.losses.binary_cross_entropy import BinaryCrossEntropy
from seglab.losses.boundary import Boundary
from seglab.losses.boundary_distance import BoundaryDistance
from seglab.losses.compound import Compound
from seglab.losses.cross_entropy import CrossEntropy
from seglab.losses.focal import Focal
from seglab.losses.focal_sigmoid import FocalSigmoid
from seglab.losses.lovasz import Lovasz, LovaszSorted
from seglab.losses.original_focal import OriginalFocal
from seglab.losses.overlap import Dice, Jaccard, Tversky

__all__ = [
    "BinaryCrossEntropy",
    "Boundary",
    "BoundaryDistance",
    "Compound",
    "CrossEntropy",
    "Dice",
    "Focal",
    "FocalSigmoid",
    "Jaccard",
    "Lovasz",
    "LovaszSorted",
    "OriginalFocal",
    "Tversky",
]
