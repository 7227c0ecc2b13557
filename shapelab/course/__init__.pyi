from .exercises import DATA_SETS as DATA_SETS
from .exercises import Context as Context
from .exercises import check as check
from .exercises import check_function as check_function
from .exercises import groups_in_turn as groups_in_turn
from .exercises import real_hearts as real_hearts
from .exercises import same as same
from .exercises import start as start
