# worker: unit tests of this room
