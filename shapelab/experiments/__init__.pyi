from . import (
    acnn as acnn,
    kept_runs as kept_runs,
    recipes as recipes,
    shipped as shipped,
    sslln as sslln,
    tables as tables,
)
