// What every engine is given: the same synthetic tokens, and one prompt whose continuation tells whether an
// engine computes this model at all.

// Ids spread over the vocabulary, as `fireside bench` has them; those of another salt differ from the start.
export function token(position, vocab, salt = 0) {
  return (position * 7919 + 11 + salt * 104729) % vocab;
}

export function tokens(start, count, vocab, salt = 0) {
  return Array.from({ length: count }, (_, at) => token(start + at, vocab, salt));
}

// What is continued: each next token is far likelier than the second, so that rounding, of activations to
// 8 bits for one, does not choose another. The ids are of SmolLM2's vocabulary, and the answer is that of
// transformers in 32-bit floats.
export const PROMPT = {
  text: "Twinkle, twinkle, little star, how I wonder what you are. Twinkle, twinkle, little",
  ids: [21476, 31047, 28, 760, 31047, 28, 1838, 4870, 28, 638, 339, 4558, 732, 346, 359, 30, 3701, 31047, 28, 760, 31047, 28, 1838],
  answer: {
    ids: [4870, 28, 638, 339, 4558, 732, 346, 359],
    pieces: [" star", ",", " how", " I", " wonder", " what", " you", " are"],
  },
};

// How many of the first tokens are the expected ones; of an engine that gives text, how many of its
// characters.
export function agreement({ ids, text }, tokens, answer = PROMPT.answer) {
  if (ids) {
    const wanted = answer.ids.slice(0, tokens);
    return { same: matching(wanted, ids), of: wanted.length };
  }
  const wanted = [...answer.pieces.slice(0, tokens).join("")];
  return { same: matching(wanted, [...(text ?? "")]), of: wanted.length, characters: true };
}

function matching(wanted, given) {
  const at = wanted.findIndex((item, index) => given[index] !== item);
  return at === -1 ? wanted.length : at;
}
