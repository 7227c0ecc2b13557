# readers register themselves (shapelab.data.cards): no list of them here
