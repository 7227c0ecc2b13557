from . import (
    data as data,
    doctor as doctor,
    experiment as experiment,
    files as files,
    main as main,
    notebooks as notebooks,
    predict as predict,
    refine as refine,
    terminal as terminal,
    train as train,
)
