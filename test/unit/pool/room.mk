# pool: unit tests of this room
