// node run.mjs ENTRY NAME=FOLDER...: mounts each folder as the importable package NAME (or, without NAME, its contents),
// runs ENTRY's main() in Pyodide and prints the string that it returns.
import fs from "node:fs";
import { loadPyodide } from "pyodide";

const [entry, ...mounts] = process.argv.slice(2);
const python = await loadPyodide();
for (const mount of mounts) {
  const [name, root] = mount.split("=");
  const guest = `/packages/${name}`;
  python.FS.mkdirTree(guest);
  python.FS.mount(python.FS.filesystems.NODEFS, { root }, guest);
}
// The folders are the checkout's own: Python 3.14 must leave no byte code there.
python.runPython("import sys; sys.dont_write_bytecode = True; sys.path[:0] = ['/packages', '/packages/vendor']");
python.FS.writeFile("/packages/entry.py", fs.readFileSync(entry, "utf8"));
const answer = await python.runPythonAsync("import entry; await entry.main()");
process.stdout.write(answer + "\n", () => process.exit(0));
