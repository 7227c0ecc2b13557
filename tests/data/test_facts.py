"""Facts that are written once: everybody else has the same object."""

from shapelab.data import facts
from shapelab.data.scheme import BIVENTRICULAR, CARDIAC, LV, VENTRICLES
from shapelab.latent import codes
from shapelab.metrics import clinical
from shapelab.phantoms import anatomy, cohort, pairs, population, ultrasound
from shapelab.show import style


def test_who_uses_them():
    assert all(module.PHASES is facts.PHASES for module in (clinical, codes, cohort, ultrasound))
    assert population.GROUPS is facts.GROUPS and tuple(style.GROUPS) == facts.GROUPS
    assert anatomy.LANDMARKS is facts.HEART_LANDMARKS and pairs.RV_SIDE_MM == facts.RV_SIDE_MM == 18


def test_values():
    """Their order is that of drawn numbers and of tables that are published."""
    assert facts.PHASES == ("ED", "ES") and facts.GROUPS == ("NOR", "DCM", "HCM", "MINF", "RV")
    assert len(set(facts.HEART_LANDMARKS)) == 6 and facts.HEART_LANDMARKS[4:] == ("apex", "mitral valve centre")


def test_names_of_structures():
    assert VENTRICLES == ("LV cavity", "LV myocardium", "RV cavity") and LV == ("LV cavity", "LV myocardium")
    assert set(VENTRICLES) == set(CARDIAC.names) < set(BIVENTRICULAR.names)
