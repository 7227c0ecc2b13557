from . import (
    acnn as acnn,
    joint_space as joint_space,
    kept_runs as kept_runs,
    recipes as recipes,
    shipped as shipped,
    sslln as sslln,
    tables as tables,
    two_stage as two_stage,
)
