"""Facts of cardiac imaging that many rooms need, each written here and nowhere else. Imports nothing."""

from __future__ import annotations

#: End-diastole and end-systole, in the order of every table here.
PHASES = ("ED", "ES")
#: The fact that says of which side a paired organ is: "left" or "right".
SIDE = "side"
#: Facts that tell shapes of one patient and phase apart: left or right, one visit or the next.
APART = (SIDE, "visit")
#: Facts that are asked for by these very names.
KNOWN = ("patient", "group", "phase", *APART)
#: ACDC's: normal, dilated and hypertrophic cardiomyopathy, previous infarction, abnormal right ventricle.
GROUPS = ("NOR", "DCM", "HCM", "MINF", "RV")
#: The six of SSLLN (its Fig. 3), as the phantoms have them.
HEART_LANDMARKS = (
    "LV lateral wall mid-point",
    "RV insertion anterior",
    "RV insertion inferior",
    "RV lateral wall turning point",
    "apex",
    "mitral valve centre",
)
# Once the RV lies to the left, the box is moved towards it: from the LV's centroid the RV reaches out to 94 mm, the
# lateral wall to 55 mm (80 ACDC patients), so a box of 144 mm centred on the LV would cut every large RV.
RV_SIDE_MM = 18.0
