"""Engine.IO 4 and Socket.IO 5 as bytes and states, without any connection."""
