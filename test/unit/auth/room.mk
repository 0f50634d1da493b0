# auth: unit tests of this room
