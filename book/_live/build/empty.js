// Stands for a module that only exists under Node.
export default {};
