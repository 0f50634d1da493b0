# base: unit tests of this room
