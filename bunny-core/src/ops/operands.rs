//! How numbers may be rounded before they are multiplied.

/// How what is multiplied may be rounded, sums staying f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Operands {
    /// Not at all.
    #[default]
    F32,
    /// To bf16, where the processor is much faster with such numbers: what models in bf16 do
    /// elsewhere.
    Bf16,
}
