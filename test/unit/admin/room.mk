# admin: unit tests of this room
