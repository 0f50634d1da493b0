# session: unit tests of this room
