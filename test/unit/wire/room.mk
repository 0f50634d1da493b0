# wire: unit tests of this room
