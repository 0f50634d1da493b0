# conf: unit tests of this room
