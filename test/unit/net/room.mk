# net: unit tests of this room
