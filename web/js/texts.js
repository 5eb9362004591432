/**
 * What the scripts of this folder say, in the language that ComfyUI is set to. What the server reports stays English.
 *
 * ComfyUI imports every file here as an extension; this one registers nothing.
 */

import { app } from "../../../scripts/app.js";

/** By language; `$name` stands for what a sentence is about. */
export const TEXTS = {
  en: {
    show: "Show advanced inputs",
    hide: "Hide advanced inputs",
    advanced: "Inputs that most people leave alone.",
    report: "Report of the last run",
    details: "Details",
    changed: "Changed since the last run.",
    error: "Error: $message",
    insert: "Insert…",
    insertList: "Insert a list of concepts",
    understood: "How the concepts are understood",
    file: "What the file says",
    grid: "$columns for $rows",
    after: "'$node' changes the model after this erasure and can bring the concept back. Put it before this node.",
    clip: "'$node' encodes a prompt with another CLIP than the erasure was made with. Connect the same CLIP to both.",
    base: "The eraser was made on another model ('$made') than it is put on ('$here'). It fits where one is a fine-tune of the other; else make it anew on this one.",
    misfit: "'$eraser' was made for $made, but '$model' is $here. Choose an eraser that was made on the same base, or make it anew on this model.",
  },
  zh: {
    show: "显示高级输入",
    hide: "隐藏高级输入",
    advanced: "多数人无需改动的输入。",
    report: "上次运行的报告",
    details: "详情",
    changed: "上次运行后有改动。",
    error: "错误：$message",
    insert: "插入…",
    insertList: "插入概念列表",
    understood: "概念被如何理解",
    file: "文件的内容",
    grid: "$columns：$rows",
    after: "“$node”在此擦除之后改变模型，可能让概念重新出现。请把它放到本节点之前。",
    clip: "“$node”编码提示词所用的 CLIP 与制作擦除时的不同。请给两者连接同一个 CLIP。",
    base: "擦除器是在另一个模型（“$made”）上制作的，却用于“$here”。若其中一个是另一个的微调模型则适用；否则请在此模型上重新制作。",
    misfit: "“$eraser”是为 $made 制作的，而“$model”是 $here。请选择在相同基础模型上制作的擦除器，或在此模型上重新制作。",
  },
  ja: {
    show: "詳細な入力を表示",
    hide: "詳細な入力を隠す",
    advanced: "ほとんどの場合、変更しなくてよい入力です。",
    report: "前回の実行のレポート",
    details: "詳細",
    changed: "前回の実行から変更されています。",
    error: "エラー：$message",
    insert: "挿入…",
    insertList: "概念のリストを挿入",
    understood: "概念がどう解釈されるか",
    file: "ファイルの内容",
    grid: "$columns：$rows",
    after: "「$node」がこの消去の後でモデルを変えるため、概念が戻ることがあります。このノードより前に置いてください。",
    clip: "「$node」は、消去に使ったものとは別の CLIP でプロンプトをエンコードしています。両方に同じ CLIP を接続してください。",
    base: "イレイサーは別のモデル（「$made」）で作られ、「$here」に適用されています。一方が他方のファインチューンなら使えます。そうでなければ、このモデルで作り直してください。",
    misfit: "「$eraser」は $made 用に作られたものですが、「$model」は $here です。同じベースで作られたイレイサーを選ぶか、このモデルで作り直してください。",
  },
};

/** The sentence of that name in ComfyUI's language, or in English. */
export function say(name, values = {}) {
  const language = app.extensionManager?.setting?.get("Comfy.Locale");
  const text = (TEXTS[language] ?? TEXTS.en)[name];
  // What is filled in may hold a '$' of its own.
  return text.replace(/\$(\w+)/g, (whole, key) => values[key] ?? whole);
}
