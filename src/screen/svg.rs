//! A picture of the screen, for the README.
