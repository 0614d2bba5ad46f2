//! The Bunny models on burn: a picture and words in, words out.
