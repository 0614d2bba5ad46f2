//! Python's `random`: the Mersenne Twister (Matsumoto and Nishimura 1998), seeded and drawn from
//! as CPython does, so that a script's random choices can be repeated.

const WORDS: usize = 624;
const MIDDLE: usize = 397;

/// `random.Random(seed)`.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u32; WORDS],
    at: usize,
}

impl Random {
    /// The generator after `random.seed(seed)`.
    pub fn new(seed: u64) -> Self {
        let low = seed as u32;
        let high = (seed >> 32) as u32;
        let key = [low, high];
        Self::from_key(if high == 0 { &key[..1] } else { &key })
    }

    /// `init_by_array` of the authors' mt19937ar.c, to which CPython hands an integer seed.
    fn from_key(key: &[u32]) -> Self {
        let mut state = [0; WORDS];
        state[0] = 19_650_218;
        for i in 1..WORDS {
            let before: u32 = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = before.wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        let mut i = 1;
        let wrap = |state: &mut [u32; WORDS], i: &mut usize| {
            *i += 1;
            if *i == WORDS {
                state[0] = state[WORDS - 1];
                *i = 1;
            }
        };
        for step in 0..WORDS.max(key.len()) {
            let j = step % key.len();
            let before = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = (state[i] ^ before.wrapping_mul(1_664_525))
                .wrapping_add(key[j])
                .wrapping_add(j as u32);
            wrap(&mut state, &mut i);
        }
        for _ in 1..WORDS {
            let before = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = (state[i] ^ before.wrapping_mul(1_566_083_941)).wrapping_sub(i as u32);
            wrap(&mut state, &mut i);
        }
        state[0] = 0x8000_0000;
        Self { state, at: WORDS }
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.at == WORDS {
            self.turn();
        }
        let mut word = self.state[self.at];
        self.at += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9D2C_5680;
        word ^= (word << 15) & 0xEFC6_0000;
        word ^ (word >> 18)
    }

    fn turn(&mut self) {
        for i in 0..WORDS {
            let joined =
                (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % WORDS] & 0x7FFF_FFFF);
            let odd = if joined & 1 == 1 { 0x9908_B0DF } else { 0 };
            self.state[i] = self.state[(i + MIDDLE) % WORDS] ^ (joined >> 1) ^ odd;
        }
        self.at = 0;
    }

    /// `random.choice` of a sequence of `len`: which item, from 0.
    ///
    /// As many high bits are drawn as `len` has, again while they say `len` or more: of four items
    /// three bits, so that half of the draws are thrown away.
    ///
    /// # Panics
    /// When `len` is 0.
    pub fn choice(&mut self, len: u32) -> u32 {
        assert!(len > 0, "a choice of nothing");
        let bits = u32::BITS - len.leading_zeros();
        loop {
            let drawn = self.next_u32() >> (u32::BITS - bits);
            if drawn < len {
                return drawn;
            }
        }
    }

    /// `random.random()`: a number from 0 up to 1, of 53 bits.
    #[cfg(test)]
    pub fn unit(&mut self) -> f64 {
        let high = f64::from(self.next_u32() >> 5);
        let low = f64::from(self.next_u32() >> 6);
        (high * 67_108_864.0 + low) / 9_007_199_254_740_992.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What CPython 3.11 says after `random.seed(42)`.
    #[test]
    fn the_first_numbers_after_seed_42_are_pythons() {
        let mut random = Random::new(42);
        let first: Vec<u32> = (0..4).map(|_| random.next_u32()).collect();
        assert_eq!(
            first,
            [2_746_317_213, 478_163_327, 107_420_369, 3_184_935_163]
        );
        let mut random = Random::new(42);
        assert_eq!(random.unit(), 0.639_426_798_457_883_7);
        assert_eq!(random.unit(), 0.025_010_755_222_666_936);
    }

    /// `[random.choice("ABCD") for _ in range(24)]` and so on, one after another.
    #[test]
    fn choices_after_seed_42_are_pythons() {
        let letters = |random: &mut Random, of: u32, count: usize| -> String {
            let mut draw = || char::from(b'A' + random.choice(of) as u8);
            (0..count).map(|_| draw()).collect()
        };
        let mut random = Random::new(42);
        assert_eq!(letters(&mut random, 4, 24), "AACBBBAADAAABBABDBDCABDC");
        let mut random = Random::new(42);
        assert_eq!(letters(&mut random, 3, 12), "CAACBAAACACC");
        assert_eq!(letters(&mut random, 5, 12), "EAEDAAABBEEA");
        assert_eq!(letters(&mut random, 2, 12), "ABABBAABBBAA");
        let mut random = Random::new(42);
        let below: Vec<u32> = (2..10).map(|of| random.choice(of)).collect();
        assert_eq!(below, [0, 0, 2, 1, 1, 1, 1, 8]);
    }

    /// `random.seed(2**40 + 5); random.getrandbits(32)`: a seed of two words.
    #[test]
    fn a_seed_of_two_words_is_pythons() {
        assert_eq!(Random::new((1 << 40) + 5).next_u32(), TWO_WORDS);
        assert_eq!(Random::new(0).next_u32(), 3_626_764_237);
    }
    const TWO_WORDS: u32 = 2_166_296_868;
}
