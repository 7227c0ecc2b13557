from . import (
    charts as charts,
    meshes as meshes,
    networks as networks,
    refined as refined,
    render as render,
    scatter as scatter,
    slices as slices,
    style as style,
    widgets as widgets,
)
