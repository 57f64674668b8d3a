//! The namenode: what the master knows of files and of the blocks they are made of.

pub mod blocks;
